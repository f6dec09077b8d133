"""Write one HTML page about trained runs: what they recognise, what they look at, which explanation to trust."""
