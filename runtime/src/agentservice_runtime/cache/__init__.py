"""The response cache: an answer that was given once is given again to whoever may see it, without a model request.

What is equal, `key` says; which answers may be kept, `replay`; which of them no longer count, `purges`; how many
processes make one model request of many equal ones, `flight`; how Redis is spoken with, `store`. `capability` brings
it into a run, `cache` is what the process has of it.
"""
