"""Files to bronze: names give labels, headers give releases, blocks of lines give rows or rejects."""
