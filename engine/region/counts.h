/* counts.h - the counting half of machines.h: one plan, parsed, and one walk over the machines. */
#ifndef REGION_COUNTS_H
#define REGION_COUNTS_H

#include "region/machines.h"

/* -ERR_INVALID. Gives *ret. */
MUST_CHECK int count_plan_new(struct count_plan **ret, const struct msg_plan *msg, struct err *err);
void count_plan_free(struct count_plan *p);

/* A FAILED whose release never got whole onto the disk: its reason begins with "stage". */
bool report_failed_staging(const struct msg_report *r);

#endif
