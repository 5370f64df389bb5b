"""The command line: `orchestra create | run | advance | inspect | snapshot | clone | info | ..`."""
