"""What models cost and what they learned: parameters, time, routing, prompts, bias, sweeps -> tables and figures."""
