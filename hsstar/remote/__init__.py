"""What the clients of other servers share: keys, pauses, errors in words, chat completions."""
