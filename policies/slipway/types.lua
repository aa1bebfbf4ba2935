---@meta
-- types.lua: everything that a policy sees and returns, as LuaCATS annotations. The engine's C code
-- and the library follow this file. It is for editors and readers; requiring it does nothing.
--
-- A policy file returns a Policy: data, and pure functions. No clock, no I/O, no randomness: every
-- input is an argument, so that each decision can be logged with its input and replayed.
-- Wherever a Duration is asked for, write "90s", "2m", "1h30m" or a whole number of seconds; a
-- policy always receives whole seconds.

---@alias Duration integer|string

---@class Policy
---@field service string            what is deployed: letters, digits, "-", "_", "."; at most 64 bytes
---@field repo string?              git URL or path; default: the repository that this file lies in
---@field build Build|fun(ctx: BuildContext): Build
---@field select Predicate?         which machines; default: all
---@field variant VariantRule?      which output a machine receives; default: the output "default"
---@field activate Activate
---@field health Health?            default: healthy once it has run for 5 s (mode "process"), or its start command returned 0
---@field replicate (fun(r: Replication): Decision)?  gate of the rollout; default: go when all regions are verified
---@field waves Wave[]|(fun(fleet: Fleet): Wave[])|nil  default: one machine, 10 %, 50 %, 100 %
---@field advance (fun(s: Snapshot): Decision)?       default: go when all reachable machines of the wave are healthy and it has baked; rollback when more than max_failed are bad
---@field deadline Duration?        from the trigger to the end, held time not counted; default "30m"
---@field hold_for Duration?        the longest hold, then on_hold_expired; default "24h"
---@field on_hold_expired "rollback"|"fail"|nil  default "rollback"
---@field on_failure "rollback"|"hold"|"fail"|nil  what the default advance answers to a bad wave; default "rollback"

---@class BuildContext
---@field service string
---@field commit string             40 hex digits
---@field ref string                what was asked for, e.g. "HEAD"
---@field params table<string, string>  from --set k=v

---@class Build
---@field steps Step[]
---@field outputs table<string, string>|string  variant name to path in the checkout; a string is the variant "default"
---@field deadline Duration?        of the whole build; default "15m"

---@class Step
---@field name string?              default: the command's first word
---@field run string[]?             argv; exactly one of run and sh
---@field sh string?                a script for /bin/sh -eu
---@field dir string?               below the checkout; default "."
---@field env table<string, string>?
---@field needs string[]?           names of steps that come before; default: the one above
---@field timeout Duration?         default "10m"
---@field silence Duration?         the longest time without output; default "5m"
---@field network boolean?          default false
---@field max_log_bytes integer?    default 16 MiB

---@class Predicate                 made by slipway.label(…), all{…}, any{…}, none{…}, everything()

---@class VariantRule               made by slipway.by_label "arch"
---@field by_label string
---@field map table<string, string>?

---@class Activate
---@field mode "process"|"command"|nil  default "process": start is a service that keeps running
---@field start string[]            argv; paths are relative to the release's tree; ${PORT}, ${RELEASE}, ${COMMIT}, ${MACHINE} are replaced
---@field stop string[]?            default for a process: SIGTERM, 10 s, SIGKILL
---@field env table<string, string>?

---@class Health                    exactly one of http and exec
---@field http string?              URL, e.g. "http://127.0.0.1:${PORT}/health"; good is a 2xx
---@field exec string[]?            argv in the release's tree; good is exit status 0
---@field interval Duration?        default "1s"; "200ms" is allowed here and for timeout
---@field timeout Duration?         default "2s"
---@field passes integer?           in a row; default 2
---@field within Duration?          bad if not healthy by then; default "60s"

---@class Wave
---@field name string
---@field where Predicate?          default: every selected machine
---@field count integer?            how many of those in `where`, cumulative; exactly one of count and percent
---@field percent number?           0 < percent <= 100, cumulative
---@field bake Duration?            how long it must stay healthy; default 0
---@field max_failed integer?       bad machines that the default advance accepts; default 0
---@field max_moving integer|string|nil  machines restarting at once: 3, or "25%"; default "25%", at least 1

---@class Decision                  made by slipway.go(), wait(…), hold(…), rollback(…), fail(…)
---@field action "go"|"wait"|"hold"|"rollback"|"fail"
---@field reason string?            a sentence for people; needed unless action is "go"
---@field after Duration?           ask again after so long at the latest; default "5s"
---@field memo table?               at most 16 KiB as JSON; comes back as s.memo next time

---@class Replication               argument of replicate
---@field total integer             regions with selected machines
---@field verified integer
---@field failed integer
---@field region table<string, RegionReplica>
---@field elapsed integer           seconds since replication began
---@field deployment DeploymentInfo
---@field params table<string, string>
---@field memo table
---@field now integer               seconds since 1970

---@class RegionReplica
---@field verified boolean
---@field state "waiting"|"fetching"|"verified"|"failed"|"unreachable"
---@field bytes integer
---@field total integer
---@field machines integer          selected ones

---@class DeploymentInfo
---@field id string
---@field service string
---@field commit string
---@field previous string?          commit of the last succeeded release
---@field actor string
---@field reason string

---@class Fleet                     argument of waves
---@field total integer             selected machines
---@field reachable integer
---@field regions FleetRegion[]     by name
---@field regions_by_size FleetRegion[]  smallest first, then by name
---@field deployment DeploymentInfo
---@field params table<string, string>

---@class FleetRegion
---@field name string
---@field total integer
---@field reachable integer

---@class Snapshot                  argument of advance
---@field wave WaveState            the open wave
---@field waves integer             how many there are
---@field fleet Counts              all selected machines
---@field elapsed integer           seconds since the trigger, held time not counted
---@field deadline_left integer     seconds
---@field since_progress integer    seconds since a count of this wave changed
---@field emergency boolean
---@field deployment DeploymentInfo
---@field params table<string, string>
---@field memo table
---@field now integer               seconds since 1970

---@class Counts
---@field total integer
---@field reachable integer
---@field offline integer           total - reachable
---@field staged integer            the release is on disk, verified
---@field activated integer         switched to it
---@field healthy integer           fresh report of this release: good
---@field bad integer               latches
---@field unknown integer           activated, no verdict yet

---@class WaveState : Counts        machines of this wave
---@field index integer             1-based
---@field name string
---@field bake integer              seconds
---@field baked integer             seconds since all its reachable machines are healthy
---@field max_failed integer
---@field moved integer             machines of this and earlier waves: activated
