/* cli.h - the verbs of `engine`, one file each; each returns its exit code. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

int cli_run(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_logs(int argc, char **argv);
int cli_events(int argc, char **argv);
int cli_queue(int argc, char **argv);
int cli_regions(int argc, char **argv);
int cli_act(int argc, char **argv); /* abort, pause, resume, promote, rollback, skip-bake */
int cli_policy(int argc, char **argv);
int cli_artifact(int argc, char **argv); /* ls, show, verify, gc, export */
int cli_delta(int argc, char **argv);    /* make, apply, info */
int cli_keys(int argc, char **argv);
int cli_serve(int argc, char **argv);
int cli_worker(int argc, char **argv);
int cli_region(int argc, char **argv);
int cli_seed(int argc, char **argv);
int cli_simulate_swarm(int argc, char **argv);
int cli_policy_host(int argc, char **argv);

#endif
