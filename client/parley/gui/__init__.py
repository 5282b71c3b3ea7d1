"""The desktop window: Qt Widgets over the SDK.

Reading order. `events` is what the SDK's thread tells and `commands` what a person asks for; `bridge` joins both to a
ParleyClient that runs on an event loop in a thread of its own. `app_state` applies the events to everything the window
shows, with `thread` for the rows of one conversation and `words` for what is said about them; these know nothing of
Qt. The rest draws: models and delegates over the state (`conversations`, `thread_model`, `bubble`, `thread_view`),
`composer`, `sign_in`, `finder`, `status_bar`, and `main_window` that puts them together. `app` is the entry point.

Conversations are named by a key, not by a peer, and a row carries its sender: a channel is another kind of key.
Receipts by member belong beside `Thread.move_receipts`, urgent messages beside `Row.status`, search beside `finder`.
"""
