"""The HTTP service of `mien serve`: pictures at once, videos as jobs, a camera over a WebSocket. Needs 'mien[serve]'."""
