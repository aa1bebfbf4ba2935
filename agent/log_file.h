/* log_file.h - keeps the file that a service prints into within bounds.
 *
 * The service holds the file open itself, so that it outlives the agent; it appends (O_APPEND), so
 * that cutting the file to nothing is safe at any time. What is cut is kept once, in PATH.1. Lines
 * printed while the copy is made can be lost. */
#ifndef AGENT_LOG_FILE_H
#define AGENT_LOG_FILE_H

#include "base/err.h"

enum {
    LOG_FILE_MAX = 16 << 20,
    LOG_FILE_KEEP = 1 << 20, /* of the end, in PATH.1 */
};

/* Cuts if it is over LOG_FILE_MAX. Missing: fine. Reads and writes LOG_FILE_KEEP bytes at most. */
MUST_CHECK int log_file_bound(const char *path, struct err *err);

#endif
