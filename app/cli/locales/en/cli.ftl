# What glean says, in English. `{ $name }` is a value. Same keys as ../zh-CN/cli.ftl (tested).

## Commands, as `glean --help` lists them
cmd-glean = Lend idle machines, run programs on them, and check every answer. Without a command: a demo on this machine.
cmd-demo = Show everything on this machine: a network, three machines, one of them lying, a picture, the receipts
cmd-run = Run a WebAssembly program on shared machines
cmd-quote = Measure a few tasks here, free, and price the whole job
cmd-jobs = List jobs, or the tasks of one job
cmd-logs = Print what a job's tasks wrote
cmd-cancel = Stop a job
cmd-rerun = Try a job's failed tasks again
cmd-explain = Say why a job or a task stands where it stands
cmd-receipt = Show a job's receipts, or check them again
cmd-share = Lend this machine
cmd-share-why = Say why no work comes
cmd-share-stop = Stop lending
cmd-share-set = Change what is lent
cmd-machines = List the machines that offer work
cmd-network = Make or show a network
cmd-network-init = Make a private network whose ledger this machine keeps
cmd-network-show = Show this node's network and its join line
cmd-join = Join a network by its join line
cmd-node = Run the node in the foreground, or stop it
cmd-status = Show this node, its network and its money
cmd-doctor = Check this machine and say what to fix
cmd-wallet = The account: its words, its key, its money
cmd-wallet-new = Make a new account from 12 words
cmd-wallet-import = Use an account from words or from a keystore file
cmd-wallet-show = Show the account and where its key lies
cmd-wallet-balance = Show the money
cmd-faucet = Get credits, on a private network
cmd-wallet-export = Write the key to a keystore file under a password of yours
cmd-backup = Copy this node's folder, while it is stopped, into one file
cmd-restore = Put a backup into an empty folder, or only check it
cmd-debug = Look at what lies on the disk
cmd-debug-journal = Show the journal, group by group
cmd-completions = Print a completion script for a shell

## Words
word-error = error:
word-hint = hint:
word-fix = fix:
word-here = this machine
word-budget = the budget is used up
word-paid = paid
word-unpaid = not paid
ago = { $time } ago

## Heads of columns
head-age = AGE
head-clean = RIGHT
head-done = DONE
head-failed = FAILED
head-faults = WRONG
head-files = FILES
head-fuel = FUEL
head-job = JOB
head-machine = MACHINE
head-name = NAME
head-outcome = OUTCOME
head-paid = PAID
head-path = PATH
head-price = PRICE
head-receipt = RECEIPT
head-obstacle = NO WORK BECAUSE
head-slots = SLOTS
head-speed = MFUEL/S
head-spent = SPENT
head-state = STATE
head-stdout = STDOUT
head-task = TASK
head-tasks = TASKS
row-account = account
row-balance = balance
row-channels = in channels
row-coming-home = coming home
row-gas = gas
row-home = home
row-jobs = jobs running
row-ledger = ledger
row-machines = machines
row-network = network
row-node = node
row-rpc = JSON-RPC
row-share = sharing

## Questions
ask-cores = 1/3 Cores to lend, of { $all }
ask-mem = 2/3 Memory of one guest, like 2GiB; auto: a quarter of the machine's
ask-price = 3/3 gUSD for 10^9 fuel; auto: the default price
ask-word = Type word { $n } to show that you have written them down
ask-words = The 12 words
ask-password = Password of the keystore file
ask-new-password = New password
ask-again = The same again

## The node
node-starting = starting this machine's node
node-stopped = the node has stopped
node-not-running = no node is running here
ledger-height = block { $height }
ledger-far = the ledger cannot be reached

## Networks
network-made = network { $name } made (chain { $chain }); this machine keeps its ledger
network-next = On other machines, type:
network-show =
    network   { $name } (chain { $chain })
    JSON-RPC  { $rpc }
    join      glean join { $line }
joined = joined { $name } as { $account } with { $balance } gUSD
joined-next = next: glean share · glean run APP.wasm · glean status
machines-none = no machine offers work now
path-direct = direct
path-relayed = relayed

## Jobs
run-accepted = job { $job } accepted · { $tasks ->
    [one] 1 task
   *[other] { $tasks } tasks
 } · at most { $budget } gUSD · Ctrl-C leaves it running
run-detached = follow it: glean logs -f { $job }
run-left = the job goes on: glean logs -f { $job } · press Ctrl-C again now to cancel it
run-written = { $n ->
    [one] 1 file
   *[other] { $n } files
 } and manifest.json written
run-over = { $done }/{ $tasks } tasks succeeded · { $spent } gUSD
run-caught = machine { $machine } answered task { $task } wrongly: caught, not paid { $unpaid } gUSD
run-failed = { $n ->
    [one] 1 task
   *[other] { $n } tasks
 } failed: glean jobs { $job } --failed · glean rerun { $job } --failed
job-cancelled = job { $job } cancelled
job-rerun = failed tasks of job { $job } are tried again
jobs-none = no jobs yet: glean run APP.wasm
note-spent = { $amount } gUSD
note-checked = { $n } checked
note-failed = { $n } failed
note-caught = { $n ->
    [one] 1 liar
   *[other] { $n } liars
 }
quote-running = running { $n ->
    [one] 1 sample task
   *[other] { $n } sample tasks
 } here
quote-tasks = { $tasks ->
    [one] 1 task
   *[other] { $tasks } tasks
 } × { $each } (measured: { $sampled } run here just now, free; { $fuel } fuel each)
quote-price = { $low } to { $high } gUSD, { $checks } % for checks included · your balance { $balance } gUSD
quote-machines = { $machines ->
    [one] 1 machine
   *[other] { $machines } machines
 } with { $slots } slots would finish in about { $time }
quote-nobody = no machine offers what this job needs now

## Events
event-accepted = task { $task } of { $machine }: { $outcome }
event-failed = task { $task } failed for good: { $why }
event-sent = slice { $slice } with { $tasks } tasks sent to { $machine }
event-paid = { $amount } gUSD promised to { $machine }
event-checked = task { $task } of { $machine } run again by { $checker }: the same answer
event-job-refused = the job was refused: { $why }
event-corrected = task { $task } of { $machine } was wrong: another answer replaces it
event-lost = { $machine } gave no answers: { $why }
event-refused = { $machine } refused: { $why }
event-ended = over: { $done } succeeded, { $failed } failed, { $spent } gUSD
event-funds = waiting for money: { $why }
event-delivered = { $tasks } tasks delivered to { $machine } for { $amount } gUSD
event-earned = { $amount } gUSD earned from { $machine }

## Receipts
receipt-written = papers written to { $file }
receipt-ok = { $receipts } receipts over { $tasks } tasks: every signature, root, price and total holds{ $papers ->
   *[other] {""}
 }
receipt-bad = { $papers ->
    [one] 1 paper does
   *[other] { $papers } papers do
 } not hold, of { $receipts } receipts over { $tasks } tasks
receipt-paid = paid { $paid } of at most { $budget } gUSD to { $providers ->
    [one] 1 machine
   *[other] { $providers } machines
 }
fault-signature = not signed by whoever it names
fault-manifest = the manifest is not the one that was signed
fault-requester = made with another requester
fault-agreement = no agreement with this machine for this channel
fault-job = for another job
fault-root = its answers do not make the root that was signed
fault-task = names a task that the job does not have, or one twice
fault-fuel = bills fuel that so many tasks cannot use
fault-price = the price is not the agreed one
fault-time = its times cannot be
fault-slice = a slice number used twice
fault-voucher = the running total does not grow by its price
fault-budget = more was paid than the cap
fault-verdict = does not fit the receipt that it judges
fault-paid-liar = a receipt that was found wrong was paid

## Sharing
share-terms = lending { $slots ->
    [one] 1 core
   *[other] { $slots } cores
 }, { $mem } MiB a guest, { $price } gUSD for 10^9 fuel
share-status = { $running }/{ $slots } running · { $done } tasks done · { $held } gUSD promised · { $settled } gUSD on the ledger
share-brief = { $running }/{ $slots } running, { $done } tasks done
share-busy = { $n ->
    [0] nothing stands in the way: waiting for work
    [one] 1 task is running
   *[other] { $n } tasks are running
 }
share-off = this machine is not lending: glean share
share-quit = q and Enter to stop
share-stopped = stopped lending
share-detached = lending in the background: glean status · glean share why · glean share stop

## The wallet
wallet-words = Write these 12 words down. They are the account's only backup and are shown once:
wallet-kept = account { $account }, its key in { $file }
wallet-aside = the former account { $account } was put aside, not deleted
wallet-exported = account { $account } written to { $file }
wallet-sealing = locking the key: this takes a second, by design
wallet-balance = { $balance } gUSD · { $channels } gUSD in channels · { $gas } GLN for gas

## Backups
backup-inside =
    made      { $age } by glean { $version }
    network   { $network }
    account   { $account }
    files     { $files }, { $mib } MiB
    journal   { $frames } groups; { $jobs } jobs, { $open } of them not over
    money     { $deposits } gUSD in channels, { $held } gUSD in vouchers, as the journal had it
    ledger    { $ledger }
backup-ledger = block { $height }; { $balance } gUSD in the account then
backup-no-ledger = kept elsewhere: balances are its to say
backup-whole = every hash holds, and a node could start from it
backup-written = written to { $file }, read back and opened
backup-secret = Keys and password lie in it in clear: whoever has the file has the account.
restored = restored to { $home }
restored-next =
    The first start needs the ledger: every open deposit is asked back and comes home after the grace period; jobs that were
    not over are cancelled. Never start the former home again: two nodes with the same keys work against each other.
restored-ledger = The ledger goes back to block { $height }: what was acknowledged after that is gone. If there is a newer copy, or the former disk can still be read, use that instead.

## The doctor
doctor-home = home { $path } can be written
doctor-home-fix = choose a folder that you own with --home, or correct its owner
doctor-disk = { $mib } MiB free on its disk
doctor-disk-fix = make room: results and the ledger need it
doctor-disk-unknown = free space is not measured on this system
doctor-clock = the clock says { $seconds } s since 1970
doctor-clock-fix = set the clock (NTP): signed papers carry times
doctor-node-on = the node is running and answers
doctor-node-off = no node is running, the home is free
doctor-node-stuck = a process holds the home but does not answer
doctor-node-fix = end it, or use another folder: it holds { $path }/run/lock
doctor-ledger = ledger of { $name } reached, block { $height }
doctor-ledger-fix = is the ledger's machine on, and UDP to it open? glean network show
doctor-machines = { $n ->
    [one] 1 machine offers
   *[other] { $n } machines offer
 } work
doctor-wall = worker: { $layer }
debug-journal = { $frames } groups, { $records } records, all whole
doctor-sealed = a worker that tries to get out reaches nothing
doctor-holes = a worker that tries to get out reaches: { $holes }
doctor-wall-fix = a newer kernel or other system settings would add this wall; guests stay in WebAssembly and in a process of their own either way

## The demo
demo-title = glean { $version } · a demo network on this machine only (--lang zh: 中文)
demo-starting = starting five nodes
demo-started = 1 ledger node, { $providers } providers, 1 requester: { $processes } processes over QUIC · { $time }
demo-opened = chain { $chain }, block { $height } is final · balance { $balance } gUSD · { $time }
demo-job = { " " }▸ job { $job } · a path tracer, one tile a task · { $tasks } tasks · at most { $budget } gUSD
demo-checked = checked   { $done }/{ $tasks } tiles accepted; { $again } answers run again elsewhere, chosen in secret
demo-kept = checked   { $done }/{ $tasks } tiles accepted, as an earlier run found
demo-liar = liar      { $name } answered task { $task } wrongly: its slice of { $tasks } tasks is not paid, { $price } gUSD
demo-no-liar = nobody was caught lying in this run
demo-paid = paid      { $paid } of at most { $budget } gUSD: { $shares }
demo-cashed = ledger    every voucher is cashed by block { $height }; balances now: { $balances } gUSD (5 % fee deducted; each began with the 100 of the faucet)
demo-picture = picture   { $file } · blake3 { $hash }
demo-receipts = receipts{"  "}
demo-left = stopped; everything is kept in { $dir }: run it again to go on
demo-next =
    { " " }check it yourself:  glean receipt { $file } --verify
    { " " }look around:        glean --home { $home } jobs
    { " " }next:  glean network init · glean share · glean run --help

## Errors, by code; { $detail } is what the node or the system said
error-account-exists = this home already has the account { $detail }
    .hint = glean wallet export FILE keeps a copy; --replace puts it aside and goes on
error-bad-answer = the node answered in a way this program does not know: { $detail }
    .hint = is it of another version? glean node --stop, then try again
error-bad-number = `{ $detail }` cannot be read as an answer to that question
    .hint = cores like 4, memory like 2GiB, price like 0.00001, or auto
error-file-exists = { $detail } is already there
    .hint = choose another name: keys are never overwritten
error-home-not-empty = { $detail } is not empty: nothing was restored
    .hint = choose an empty or new folder with --home, or move this one away; never delete it before the restored node works
error-not-a-backup = this is not a backup that this build can read: { $detail }
    .hint = glean backup FILE writes them; a newer build reads what it wrote
error-backup-damaged = the backup is damaged, nothing was restored: { $detail }
    .hint = use another copy of it
error-backup-unusable = no node could start from this: { $detail }
    .hint = correct what is named, or use another copy
error-backup-disk = could not read or write { $detail }
    .hint = check the path, its permissions and free space; a check needs room for a copy in the temporary folder (TMPDIR)
error-insufficient-balance = not enough money: { $detail }
    .hint = glean faucet (private networks), or a smaller --max
error-no-account = no account in { $detail }
    .hint = glean wallet new, or glean join LINE
error-no-home = there is no folder for this node's data: { $detail }
    .hint = name one with --home or GLEAN_HOME
error-no-input = there is no file or folder { $detail }
    .hint = --input HOST:GUEST, for example --input ./data:/in
error-no-log = could not start the log: { $detail }
    .hint = GLEAN_LOG takes levels like info or glean_node=debug
error-no-journal = there is no journal: { $detail }
    .hint = a node writes it when it starts: glean status
error-no-network = this node belongs to no network yet: { $detail }
    .hint = glean network init makes one; glean join LINE joins one; glean alone shows a demo
error-no-program = there is no program { $detail }
    .hint = name a .wasm file built for WASI preview 1 (Rust: --target wasm32-wasip1)
error-no-randomness = the system gave no random bytes: { $detail }
    .hint = wait until the system has booted fully
error-no-tasks = the task list { $detail } is empty
    .hint = one task a line
error-nobody-to-ask = this needs an answer, and there is no terminal to ask on{ $detail }
    .hint = pass the secret in a file: --password-file or --secret-file
error-node-gone = the node does not answer: { $detail }
    .hint = glean doctor; jobs go on when it is started again
error-node-running = a node is running in { $detail }
    .hint = glean node --stop
error-node-start = the node did not start; its log says { $detail }
    .hint = glean doctor
error-node-stuck = the node's process { $detail } did not stop
    .hint = end it by its id
error-not-receipts = these are not a job's receipts: { $detail }
    .hint = glean receipt JOB --out FILE writes them
error-passwords-differ = the two passwords differ{ $detail }
    .hint = nothing was written; try again
error-short-password = the password needs at least { $detail } characters
    .hint = whoever gets the file can guess as long as they like
error-stdin-too-large = standard input is larger than { $detail } MiB
    .hint = pass it as a file: --input FILE:/in/FILE
error-too-many-tasks = { $detail } tasks are more than a job may have
    .hint = split the list
error-wrong-word = that is not word { $detail }; nothing was changed
    .hint = glean wallet new again, and write the words down
error-ambiguous-job = { $detail }
    .hint = give more digits of the id
error-bad-host = { $detail }
    .hint = use the url of run/api.json in the home
error-bad-input = the input cannot be used: { $detail }
    .hint = --input HOST:GUEST with plain files and a guest path like /data/a.csv
error-bad-program = the program cannot run: { $detail }
    .hint = programs are WASI preview 1 modules: rustc --target wasm32-wasip1, or zig cc -target wasm32-wasi
error-bad-token = { $detail }
    .hint = use the token of run/api.json in the home
error-disk = the disk failed: { $detail }
    .hint = make room or check the disk, then start the node again
error-faucet-refused = no credits: { $detail }
    .hint = a private network grants credits once per account
error-job-refused = the job was refused: { $detail }
    .hint = see log/node.log in the home
error-ledger-unreachable = the ledger cannot be reached: { $detail }
    .hint = glean doctor
error-no-file = { $detail }
    .hint = glean jobs JOB
error-no-job = { $detail }
    .hint = glean jobs
error-no-output = the output is gone: { $detail }
    .hint = run the job again
error-no-result = { $detail }
    .hint = glean explain JOB/TASK
error-no-sample = the samples failed: { $detail }
    .hint = run one task to see why: --array 1-1
error-no-task = { $detail }
    .hint = tasks count from 0
error-stopping = the node is stopping: { $detail }
    .hint = start it again; log/node.log in the home says why it stopped
error-store-failed = could not keep the data: { $detail }
    .hint = check free disk space
error-too-large = too much: { $detail }
    .hint = split the job into smaller ones
error-unreadable-file = { $detail }
    .hint = check the path and its permissions
error-demo-running = a demo is running in { $detail } already
    .hint = wait for it, or use another folder: glean demo --dir DIR
