"""Steps of a task that outlive the process that took them: what the model and the tools have answered is not asked again.

What is written of a step, and when that counts, `written`; where it lies, `store`; how one attempt reads and writes it,
`journal`; where in a run that happens, `capability`.
"""
