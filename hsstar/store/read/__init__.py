"""What is only read: progress, throughput, lineage, exports, studies, and queries of users."""
