#!/bin/sh
# The main job on what this machine has to tell: each command is shown, run for real, and what it did is checked.
# Works in a directory of its own, which is removed at the end. Exits with 1 if anything is not as it should be.
# shellcheck disable=SC2016,SC2154  # commands are shown as they are written, and run by eval
set -u

work=$(mktemp -d "${TMPDIR:-/tmp}/evtool-demo.XXXXXX") || exit 1
EVTOOL_HOME=$work/home
export EVTOOL_HOME
unset EVTOOL_DEBUG
cd "$work" || exit 1
checks=0
failures=0

clean_up() {
    [ ! -s sampler ] || kill "$(cat sampler)" 2>/dev/null
    cd / && rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n# %s\n' "$*"; }

# Show a command, run it here, show the first $lines lines of what it wrote, and check its exit code.
lines=8
run() { run_for 0 "$1"; }
run_for() {
    wanted=$1
    printf '\n$ %s\n' "$2"
    eval "$2" >output 2>&1
    code=$?
    head -n "$lines" output | cut -c 1-160
    hidden=$(($(wc -l <output) - lines))
    [ "$hidden" -le 0 ] || printf '  … and %d lines more\n' "$hidden"
    check "exit code $wanted" [ "$code" -eq "$wanted" ]
}

# The same for a command whose output is for people: it goes straight to the terminal, if there is one.
show() {
    printf '\n$ %s\n' "$1"
    eval "$1"
    check 'exit code 0' [ $? -eq 0 ]
}

# Count a check, and complain if what it says does not hold.
check() {
    what=$1
    shift
    checks=$((checks + 1))
    "$@" && return
    failures=$((failures + 1))
    printf 'NOT AS IT SHOULD BE: %s (%s)\n' "$what" "$*"
}

# Wait until a command succeeds, at most about 20 seconds.
await() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 400 ] || return 1
        sleep 0.05
    done
}

events() { evtool replay "$@" | wc -l; }
lag() { evtool groups "$1" --json | sed -n "s/.*\"group\":\"$2\".*\"lag\":\\([0-9]*\\).*/\\1/p"; }

# What this machine has to tell: processes, file systems, and the first of these files that is plain text.
log=/etc/passwd
for one in /var/log/syslog /var/log/messages /var/log/dpkg.log /var/log/pacman.log /etc/services; do
    if [ -s "$one" ] && [ -r "$one" ] && ! head -n 500 "$one" | LC_ALL=C grep -q '[^ -~[:blank:]]'; then
        log=$one
        break
    fi
done
processes='ps -eo pid,ppid,comm'
$processes >/dev/null 2>&1 || processes='cat /proc/[0-9]*/stat'

# One reading of the machine, ten times a second: its load and its free memory.
cat >sample <<'END'
#!/bin/sh
echo $$ >sampler
while :; do
    load=$(cut -d ' ' -f 1 /proc/loadavg 2>/dev/null || echo 0)
    free=$(sed -n 's/^MemFree: *\([0-9]*\) kB/\1/p' /proc/meminfo 2>/dev/null)
    printf '{"host":"%s","load":%s,"free_kb":%s}\n' "$(uname -n)" "${load:-0}" "${free:-0}"
    sleep 0.1
done
END
# A handler: gets one event on standard input, and its attributes in EVTOOL_… variables.
cat >handler <<'END'
#!/bin/sh
echo "offset $EVTOOL_OFFSET, a $EVTOOL_TYPE: $(sed 's/.*"data"://; s/}$//')"
END
chmod +x sample handler

evtool --version || { echo "evtool does not start; run this as: make demo" >&2; exit 1; }
echo "home: $EVTOOL_HOME"

say 'Three producers at once, each a pipe from a real program. The topic is made by its first event.'
run "$processes | tee processes | evtool append host --text --type process &
  df -P | tee disks | evtool append host --text --type disk --source df &
  head -n 500 $log | tee log | evtool append host --text --type log --source $log &
  wait"
check 'every line of every producer is an event' [ "$(events host)" -eq "$(cat processes disks log | wc -l)" ]

say 'The newest of them, and then all of one kind: what came in comes out, in its order, byte for byte.'
show 'evtool tail host -n 3'
run 'evtool replay host --type disk -o text'
run 'evtool replay host --type disk -o text | cmp - disks'
run 'evtool replay host --type log -o text | cmp - log'

say 'No server: the log is a directory, and an event a line of JSON that any tool reads.'
run "grep -h '\"type\":\"disk\"' \"\$EVTOOL_HOME\"/topics/host/*.jsonl | tail -n 2"
check 'grep sees the events too' [ "$(wc -l <output)" -eq 2 ]

say 'A sensor: one producer for as long as it lives. Its pipe stays open, and what it says is there at once.'
run './sample | tee given | evtool append sensors --key-from .host & producer=$!'
run 'evtool subscribe sensors --count 5 --timeout 20s --data'
check 'five readings came' [ "$(grep -c '^{"host":' output)" -eq 5 ]
check 'while the producer goes on' kill -0 "$producer"

say 'A group remembers where it is: stop it, start it again, and it goes on with the next event.'
run 'evtool subscribe sensors --group watch --from earliest --count 2 --timeout 20s'
check 'begins at the first event' grep -q '^{"offset":0,' output
run 'evtool subscribe sensors --group watch --count 2 --timeout 20s'
check 'goes on with the third' grep -q '^{"offset":2,' output
check 'and repeats nothing' [ "$(grep -c '"offset":[01],' output)" -eq 0 ]

say 'The sensor stops: everything that it ever said is in the log.'
run 'kill $(cat sampler); wait $producer'
run 'evtool replay sensors --data | cmp - given'
run 'evtool subscribe sensors --group watch --drain | wc -l'
check 'the group has had all of it' [ "$(lag sensors watch)" -eq 0 ]

say 'Again from a point in time. (Offsets, times and words such as 10m or "yesterday 14:00" all do.)'
moment=$(evtool replay sensors --from 4 --count 1 | sed 's/.*"time":"\([^"]*\)".*/\1/')
run "evtool replay sensors --from $moment --count 2"
check 'found by its time' grep -q "\"time\":\"$moment\"" output
run 'evtool replay sensors --from 1h --until 5 --speed 4x --data'
check 'five events before offset 5' [ "$(wc -l <output)" -eq 5 ]

say 'A handler: one run of a command for each event. What fails, however often it is tried, is set aside with its story.'
run_for 1 'evtool subscribe host --group alarm --type disk --from earliest --drain --retries 0 -- false'
run 'evtool dead host'
check 'all that failed is set aside' [ "$(wc -l <output)" -eq "$(wc -l <disks)" ]

say 'Once the handler is mended, it goes through again.'
run 'evtool redrive host --all'
run 'evtool subscribe host --group alarm --type disk --drain -- ./handler'
check 'each disk handled once' [ "$(wc -l <output)" -eq "$(wc -l <disks)" ]
check 'nothing left' [ "$(lag host alarm)" -eq 0 ]

say 'Fan-out: every event to every sink, and each sink remembers where it is.'
run "evtool fanout host --to topic:archive --to file:copy.jsonl --to 'exec:wc -c >>sizes' --type disk --from earliest --drain"
run 'wc -l copy.jsonl sizes'
check 'the file has all' [ "$(wc -l <copy.jsonl)" -eq "$(wc -l <disks)" ]
check 'the command had all' [ "$(wc -l <sizes)" -eq "$(wc -l <disks)" ]
check 'the topic has all' [ "$(events archive)" -eq "$(wc -l <disks)" ]
run "evtool fanout host --to file:copy.jsonl --type disk --drain && wc -l <copy.jsonl"
check 'nothing twice' [ "$(wc -l <copy.jsonl)" -eq "$(wc -l <disks)" ]

say 'Sent twice, stored once: an id is looked for among those of the last 24 hours.'
run "evtool append orders '{\"amount\":9.5}' --id order-17 --offsets"
run "evtool append orders '{\"amount\":9.5}' --id order-17 --offsets"
check 'one event' [ "$(events orders)" -eq 1 ]

say 'A bad line is refused with its number and the reason, and kept; the lines around it are stored. Exit code 65.'
run_for 65 "printf '%s\\n' '{\"amount\":1}' '{\"amount\":oops}' '{\"amount\":2}' | evtool append orders --rejects refused"
check 'its number is said' grep -q 'line 2' output
check 'the two others are stored' [ "$(events orders)" -eq 3 ]
run 'cat refused'
check 'the bad line is kept' grep -q oops output
run_for 3 'evtool tail order'
check 'the nearest name is said' grep -q orders output

say 'What there is, and who is how far behind (a table on a terminal; --json for programs).'
lines=20
show 'evtool topics'
check 'five topics' [ "$(evtool topics | wc -l)" -eq 5 ]
run 'evtool groups sensors --json'
check 'says the lag' grep -q '"lag":0' output

say 'A consumer can be there first: it waits for its topic, and gets the first event.'
run 'evtool subscribe deploys --count 1 --timeout 20s >first 2>notice & reader=$!'
check 'it says that it waits' await grep -q waiting notice
run "evtool append deploys '{\"version\":\"1.4.2\"}' --key web && wait \$reader && cat first"
check 'the event came' grep -q '1\.4\.2' output

echo
if [ "$failures" -gt 0 ]; then
    echo "$failures of $checks checks failed"
    exit 1
fi
echo "All $checks checks hold."
