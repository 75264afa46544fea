"""What trueup costs, beside what other ways of doing the same cost. See README.md."""
