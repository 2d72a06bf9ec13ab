"""Where events come from: the only code that talks to the kernel."""
