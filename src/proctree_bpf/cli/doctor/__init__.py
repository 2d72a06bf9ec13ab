"""What ``doctor`` checks: what this machine offers to each source, and what would mend it.

Every check returns a finding; only the command prints.
"""
