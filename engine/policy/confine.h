/* confine.h - gives up, for good, what a process that only computes does not need. */
#ifndef POLICY_CONFINE_H
#define POLICY_CONFINE_H

/* From here on this process has no new privileges, cannot open, create, connect or start anything,
 * dumps no core and has bounded memory: by limits, and by a filter that answers EPERM to all system
 * calls but those of reading, writing, memory and the end. A kernel without filters leaves the
 * limits. */
void confine_self(void);

/* Bounds the processor time of what follows, in case that nobody is left to kill us. */
void confine_cpu_seconds(unsigned seconds);

#endif
