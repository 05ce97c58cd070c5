"""The queue: messages wait in the log, and workers of a task engine send them.

The engine only calls `queue.work.send_queued` with keys of messages. Which message is
sent, when and how often is decided here, by the rows of the database.
"""
