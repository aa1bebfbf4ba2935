/* policy.h - the verbs below `engine policy`; what policy.c shares with policy_author.c. */
#ifndef CLI_POLICY_H
#define CLI_POLICY_H

int policy_verb_new(int argc, char **argv);  /* writes a policy, its spec and .luacheckrc */
int policy_verb_doc(int argc, char **argv);  /* prints types.lua for people */
int policy_verb_test(int argc, char **argv); /* becomes busted */

#endif
