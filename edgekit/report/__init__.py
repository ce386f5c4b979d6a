"""What a person reads: the table at the end of a build, and report.html."""
