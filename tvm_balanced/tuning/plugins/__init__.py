"""What MetaSchedule's tuning loop is given: a file for each of its extension points, named as in MetaSchedule."""
