"""Custom functions: judged by the rules, by slopes, or by what their author declared."""
