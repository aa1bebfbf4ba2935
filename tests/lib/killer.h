/* killer.h - kill -9 at every change of the file system.
 *
 *     for (size_t n = 0; kill_at(n, KILL_BEFORE, body, arg); n++)
 *         ... the child that ran body(arg) was killed when it was about to make its n-th change:
 *             look at what it left ...
 *
 * A change is a system call that writes, makes, links, renames, cuts, syncs or removes a file, or
 * sets its mode. KILL_TORN lets a write() come half-way (it kills before any other change). The
 * child is traced (ptrace), and so are its threads. */
#ifndef TESTS_KILLER_H
#define TESTS_KILLER_H

#include <stdbool.h>
#include <stddef.h>

enum kill_how { KILL_BEFORE, KILL_TORN };

/* False if body ended before its n-th change; it must have returned 0 then (else the program is
 * ended). Changes from 0. */
bool kill_at(size_t n, enum kill_how how, int (*body)(void *arg), void *arg);

/* Memory that child and parent see, zeroed; lives until the program ends. */
void *shared_memory(size_t bytes);

#endif
