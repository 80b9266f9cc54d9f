"""A chat worker: rooms are topics, and what one worker publishes reaches the clients of all."""
