"""The AgentService operator.

AgentService --parse--> spec --render--> manifests --plan--> changes --apply--> outcomes --judge--> status
              pure            pure               pure            I/O                pure
"""
