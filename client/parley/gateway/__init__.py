"""The line gateway: a text protocol on TCP for telnet, nc and old clients, for many connections in one process.

`lines`, `requests`, `styles` and `limits` are the protocol without input and output. `accounts` holds the accounts in
use, `session` serves one connection, and `server` accepts connections.
"""
