"""What it cost: metrics, statistics, venue scorecards, reports and the 606 export."""
