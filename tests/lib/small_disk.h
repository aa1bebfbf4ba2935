/* small_disk.h - a file system that is soon full: a tmpfs that only this process sees. */
#ifndef TESTS_SMALL_DISK_H
#define TESTS_SMALL_DISK_H

#include <stdbool.h>
#include <stddef.h>

/* Mounts one of that size on the directory path, or changes the size of the one that is there. False
 * where the kernel does not let us; then the test is skipped. Gone when the process ends. */
bool small_disk(const char *path, size_t bytes);

#endif
