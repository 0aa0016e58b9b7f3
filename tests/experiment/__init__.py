"""The main job, as configuration, as a run, and from the command line."""
