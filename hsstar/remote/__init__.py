"""What the clients of other servers share: keys, pauses between requests, errors in words, chat completions."""
