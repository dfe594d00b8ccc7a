"""OpenAI-compatible servers: requests, replies, faults and costs; torch is never needed."""
