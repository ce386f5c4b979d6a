"""The only place that knows the order: plan, run, export, test, measure, judge, bundle."""
