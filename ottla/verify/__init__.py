"""`ottla verify`: a workload, faults, and a checker that says whether the log kept its promises."""
