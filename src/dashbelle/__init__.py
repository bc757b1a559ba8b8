"""DashScope's text-generation service, BELLE-LLaMA included, on your own machine."""
