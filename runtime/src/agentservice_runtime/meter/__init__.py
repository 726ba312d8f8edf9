"""The meter: each model request of the process is bounded, reserved, sent within its bound, and settled.

`boundary` catches the requests, `meter` leads each from its bound to its settlement, `wire` sees what is really sent.
"""
