"""OpenAI's chat completions in front of the agent: the same runs, in the words that its clients know."""
