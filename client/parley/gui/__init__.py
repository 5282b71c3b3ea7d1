"""The desktop window: Qt Widgets over the SDK.

Reading order. `events` are what the SDK's thread reports, `commands` are what a person does. `bridge` connects both to
a ParleyClient that runs on an event loop in its own thread (`client_worker`). `app_state` applies the events with
`parley.chat` and knows nothing of Qt. The rest draws: models and delegates over the state (`conversations`,
`thread_model`, `bubble`, `thread_view`), `composer`, `reading`, `sign_in`, `finder`, `status_bar`, and `main_window`,
which connects them. `app` is the entry point.
"""
