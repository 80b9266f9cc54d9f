"""The gateway: accounts and logins, the page, and the way to the chat workers."""
