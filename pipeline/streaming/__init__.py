"""The streaming execution: Ray Data, one worker per stage, records that wait."""
