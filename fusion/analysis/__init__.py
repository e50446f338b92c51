"""What models cost and what they learned: parameters, time, routing, prompts, intensity bias, sweeps -> tables, figures."""
