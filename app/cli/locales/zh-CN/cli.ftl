# glean 的中文语句。`{ $name }` 是数值。键与 ../en/cli.ftl 相同（有测试）。

## 命令
cmd-glean = 出借闲置机器，在其上运行程序，并核对每个答案。不带命令：在本机演示。
cmd-demo = 在本机演示全部：一个网络、三台机器（其中一台说谎）、一幅图和收据
cmd-run = 在共享的机器上运行 WebAssembly 程序
cmd-quote = 先在本机免费试跑几个任务，再给整个作业报价
cmd-jobs = 列出作业，或某个作业的任务
cmd-logs = 输出作业各任务写出的内容
cmd-cancel = 停止作业
cmd-rerun = 重试作业中失败的任务
cmd-explain = 说明作业或任务为何处于当前状态
cmd-receipt = 显示作业的收据，或重新核对
cmd-share = 出借本机
cmd-share-why = 说明为何没有任务到来
cmd-share-stop = 停止出借
cmd-share-set = 修改出借的内容
cmd-machines = 列出提供算力的机器
cmd-network = 建立或查看网络
cmd-network-init = 建立私有网络，由本机保管账本
cmd-network-show = 显示本节点的网络及其加入行
cmd-join = 用加入行加入网络
cmd-node = 在前台运行节点，或停止它
cmd-status = 显示本节点、其网络和资金
cmd-doctor = 检查本机并说明该修什么
cmd-wallet = 账户：助记词、密钥和资金
cmd-wallet-new = 用 12 个词新建账户
cmd-wallet-import = 从助记词或密钥文件导入账户
cmd-wallet-show = 显示账户及密钥所在位置
cmd-wallet-balance = 显示资金
cmd-faucet = 在私有网络上领取额度
cmd-wallet-export = 把密钥写入以你的密码保护的密钥文件
cmd-backup = 把已停止节点的数据目录存成一个文件
cmd-restore = 把备份恢复到空目录，或只作检查
cmd-debug = 查看磁盘上的内容
cmd-debug-journal = 逐组显示日志记录
cmd-completions = 输出某个 shell 的补全脚本

## 词语
word-error = 错误：
word-hint = 提示：
word-fix = 办法：
word-here = 本机
word-budget = 预算已用完
word-paid = 已付
word-unpaid = 未付
ago = { $time } 前

## 表头
head-age = 时间
head-clean = 正确
head-done = 完成
head-failed = 失败
head-faults = 错误
head-files = 文件
head-fuel = 燃料
head-job = 作业
head-machine = 机器
head-name = 名称
head-outcome = 结局
head-paid = 已付
head-path = 路径
head-price = 价格
head-receipt = 收据
head-obstacle = 无任务的原因
head-slots = 槽位
head-speed = MFUEL/S
head-spent = 花费
head-state = 状态
head-stdout = 输出
head-task = 任务
head-tasks = 任务数
row-account = 账户
row-balance = 余额
row-channels = 通道内
row-coming-home = 退回途中
row-gas = 手续费币
row-home = 数据目录
row-jobs = 运行中作业
row-ledger = 账本
row-machines = 机器
row-network = 网络
row-node = 节点
row-rpc = JSON-RPC
row-share = 出借

## 提问
ask-cores = 1/3 出借几个核（共 { $all } 个）
ask-mem = 2/3 每个客体的内存，如 2GiB；auto：本机内存的四分之一
ask-price = 3/3 每 10^9 燃料多少 gUSD；auto：默认价格
ask-word = 请输入第 { $n } 个词，以示已抄下
ask-words = 12 个助记词
ask-password = 密钥文件的密码
ask-new-password = 新密码
ask-again = 再输一次

## 节点
node-starting = 正在启动本机节点
node-stopped = 节点已停止
node-not-running = 这里没有节点在运行
ledger-height = 区块 { $height }
ledger-far = 无法连上账本

## 网络
network-made = 网络 { $name } 已建立（链 { $chain }）；本机保管其账本
network-next = 在其他机器上输入：
network-show =
    网络      { $name }（链 { $chain }）
    JSON-RPC  { $rpc }
    加入      glean join { $line }
joined = 已加入 { $name }，账户 { $account }，{ $balance } gUSD
joined-next = 接下来：glean share · glean run APP.wasm · glean status
machines-none = 目前没有机器提供算力
path-direct = 直连
path-relayed = 中继

## 作业
run-accepted = 作业 { $job } 已受理 · { $tasks } 个任务 · 最多 { $budget } gUSD · Ctrl-C 后作业继续
run-detached = 跟踪：glean logs -f { $job }
run-left = 作业继续运行：glean logs -f { $job } · 现在再按一次 Ctrl-C 则取消
run-written = 已写出 { $n } 个文件和 manifest.json
run-over = { $done }/{ $tasks } 个任务成功 · { $spent } gUSD
run-caught = 机器 { $machine } 答错了任务 { $task }：被查出，未付 { $unpaid } gUSD
run-failed = { $n } 个任务失败：glean jobs { $job } --failed · glean rerun { $job } --failed
job-cancelled = 作业 { $job } 已取消
job-rerun = 正在重试作业 { $job } 中失败的任务
jobs-none = 还没有作业：glean run APP.wasm
note-spent = { $amount } gUSD
note-checked = 已核对 { $n }
note-failed = 失败 { $n }
note-caught = 说谎者 { $n }
quote-running = 正在本机试跑 { $n } 个任务
quote-tasks = { $tasks } 个任务 × { $each }（实测：刚在本机免费跑了 { $sampled } 个；每个 { $fuel } 燃料）
quote-price = { $low } 至 { $high } gUSD，含 { $checks } % 核对 · 你的余额 { $balance } gUSD
quote-machines = { $machines } 台机器、{ $slots } 个槽位，约 { $time } 完成
quote-nobody = 目前没有机器满足此作业的要求

## 事件
event-accepted = { $machine } 的任务 { $task }：{ $outcome }
event-failed = 任务 { $task } 最终失败：{ $why }
event-sent = 第 { $slice } 片（{ $tasks } 个任务）已发给 { $machine }
event-paid = 已承诺付给 { $machine } { $amount } gUSD
event-checked = { $machine } 的任务 { $task } 由 { $checker } 重跑：答案相同
event-job-refused = 作业被拒绝：{ $why }
event-corrected = { $machine } 的任务 { $task } 答错：已换成另一个答案
event-lost = { $machine } 没有给出答案：{ $why }
event-refused = { $machine } 拒绝：{ $why }
event-ended = 结束：成功 { $done }，失败 { $failed }，{ $spent } gUSD
event-funds = 等待资金：{ $why }
event-delivered = 已向 { $machine } 交付 { $tasks } 个任务，{ $amount } gUSD
event-earned = 从 { $machine } 赚得 { $amount } gUSD

## 收据
receipt-written = 单据已写入 { $file }
receipt-ok = { $receipts } 张收据、{ $tasks } 个任务：签名、根、价格和总额全部相符{ $papers ->
   *[other] {""}
 }
receipt-bad = { $papers } 份单据不符，共 { $receipts } 张收据、{ $tasks } 个任务
receipt-paid = 上限 { $budget } gUSD，已付 { $paid } gUSD，给 { $providers } 台机器
fault-signature = 签名不是单据所写之人的
fault-manifest = 清单不是当初签名的那份
fault-requester = 是与另一个请求者订立的
fault-agreement = 此通道与此机器之间没有协议
fault-job = 属于另一个作业
fault-root = 答案与所签的根不符
fault-task = 写有作业中没有的任务，或同一任务两次
fault-fuel = 所计燃料与任务数不符
fault-price = 价格不是约定的
fault-time = 时间不可能
fault-slice = 同一片号用了两次
fault-voucher = 累计数与其价格不符
fault-budget = 付款超过上限
fault-verdict = 与所裁定的收据不符
fault-paid-liar = 被查出错误的收据却付了款

## 出借
share-terms = 出借 { $slots } 个核，每个客体 { $mem } MiB，每 10^9 燃料 { $price } gUSD
share-status = 运行中 { $running }/{ $slots } · 已完成 { $done } 个任务 · 已承诺 { $held } gUSD · 已上账 { $settled } gUSD
share-brief = 运行中 { $running }/{ $slots }，已完成 { $done } 个任务
share-busy = { $n ->
    [0] 没有障碍：等待任务
   *[other] { $n } 个任务正在运行
 }
share-off = 本机未出借：glean share
share-quit = 输入 q 回车停止
share-stopped = 已停止出借
share-detached = 正在后台出借：glean status · glean share why · glean share stop

## 钱包
wallet-words = 请抄下这 12 个词。它们是账户唯一的备份，只显示一次：
wallet-kept = 账户 { $account }，密钥在 { $file }
wallet-aside = 原账户 { $account } 已移到一旁，没有删除
wallet-exported = 账户 { $account } 已写入 { $file }
wallet-sealing = 正在锁上密钥：有意需要一秒
wallet-balance = { $balance } gUSD · 通道内 { $channels } gUSD · 手续费 { $gas } GLN

## 备份
backup-inside =
    制作时间  { $age }，glean { $version }
    网络      { $network }
    账户      { $account }
    文件      { $files } 个，{ $mib } MiB
    日志      { $frames } 组；{ $jobs } 个作业，其中 { $open } 个未结束
    资金      通道中 { $deposits } gUSD，凭证中 { $held } gUSD（以日志为准）
    账本      { $ledger }
backup-ledger = 区块 { $height }；当时账户有 { $balance } gUSD
backup-no-ledger = 由别的节点保存：余额以它为准
backup-whole = 所有哈希相符，节点可以由此启动
backup-written = 已写入 { $file }，并已读回、打开核对
backup-secret = 其中的密钥和密码是明文：谁拿到文件，谁就拥有账户。
restored = 已恢复到 { $home }
restored-next =
    第一次启动需要能连上账本：所有未关闭的押金都会被要求退回，宽限期后到账；未结束的作业会被取消。
    切勿再启动原来的目录：密钥相同的两个节点会互相妨碍。
restored-ledger = 账本将回到区块 { $height }：此后确认过的一切都会丢失。若有更新的副本，或原来的磁盘仍可读取，请改用它。

## 体检
doctor-home = 数据目录 { $path } 可写
doctor-home-fix = 用 --home 选一个属于你的目录，或改正其所有者
doctor-disk = 所在磁盘剩余 { $mib } MiB
doctor-disk-fix = 请腾出空间：结果和账本需要它
doctor-disk-unknown = 本系统上不测量剩余空间
doctor-clock = 时钟为 1970 年以来 { $seconds } 秒
doctor-clock-fix = 请校准时钟（NTP）：签名单据带有时间
doctor-node-on = 节点正在运行并应答
doctor-node-off = 没有节点在运行，数据目录空闲
doctor-node-stuck = 有进程占用数据目录却不应答
doctor-node-fix = 结束它，或换一个目录：它占用 { $path }/run/lock
doctor-ledger = 已连上 { $name } 的账本，区块 { $height }
doctor-ledger-fix = 账本所在机器是否开着、UDP 是否畅通？glean network show
doctor-machines = { $n } 台机器提供算力
doctor-wall = 工作进程：{ $layer }
debug-journal = { $frames } 组，共 { $records } 条记录，全部完整
doctor-sealed = 试图越界的工作进程一无所得
doctor-holes = 试图越界的工作进程够得到：{ $holes }
doctor-wall-fix = 更新的内核或其他系统设置可添上这道墙；无论如何，客体都在 WebAssembly 和独立进程之内

## 演示
demo-title = glean { $version } · 只在本机上的演示网络（--lang en: English）
demo-starting = 正在启动五个节点
demo-started = 1 个账本节点、{ $providers } 个提供者、1 个请求者：{ $processes } 个进程，经 QUIC 相连 · { $time }
demo-opened = 链 { $chain }，区块 { $height } 已最终确定 · 余额 { $balance } gUSD · { $time }
demo-job = { " " }▸ 作业 { $job } · 路径追踪，每个任务一块图 · { $tasks } 个任务 · 最多 { $budget } gUSD
demo-checked = 核对  { $done }/{ $tasks } 块已接受；{ $again } 个答案秘密抽出、在别处重跑
demo-kept = 核对  { $done }/{ $tasks } 块已接受，见于先前一次运行
demo-liar = 说谎  { $name } 答错了任务 { $task }：它那一片 { $tasks } 个任务不付款，{ $price } gUSD
demo-no-liar = 这一次没有查出说谎者
demo-paid = 付款  { $paid } gUSD，上限 { $budget }：{ $shares }
demo-cashed = 账本      到第 { $height } 块，所有凭证均已兑现；当前余额：{ $balances } gUSD（已扣 5 % 手续费；每个账户起初由水龙头发放 100）
demo-picture = 图画  { $file } · blake3 { $hash }
demo-receipts = 收据{"  "}
demo-left = 已停止；一切保存在 { $dir }：再次运行即可继续
demo-next =
    { " " }自己核对：  glean receipt { $file } --verify
    { " " }四处看看：  glean --home { $home } jobs
    { " " }接下来：glean network init · glean share · glean run --help

## 错误，按代码；{ $detail } 是节点或系统的原话
error-account-exists = 此处已有账户 { $detail }
    .hint = glean wallet export FILE 可留副本；--replace 把它移到一旁并继续
error-bad-answer = 节点的回答无法理解：{ $detail }
    .hint = 版本不同？先 glean node --stop，再试
error-bad-number = `{ $detail }` 不能作为这个问题的回答
    .hint = 核数如 4，内存如 2GiB，价格如 0.00001，或 auto
error-file-exists = { $detail } 已存在
    .hint = 请换个名字：密钥从不覆盖
error-home-not-empty = { $detail } 不是空的：什么都没有恢复
    .hint = 请用 --home 选一个空目录或新目录，或把它移走；恢复的节点正常之前切勿删除
error-not-a-backup = 本版本读不了这个备份：{ $detail }
    .hint = glean backup FILE 可以制作；新版本写的请用新版本读
error-backup-damaged = 备份已损坏，什么都没有恢复：{ $detail }
    .hint = 请用另一份副本
error-backup-unusable = 节点无法由此启动：{ $detail }
    .hint = 请改正所说的问题，或用另一份副本
error-backup-disk = 无法读写 { $detail }
    .hint = 请检查路径、权限和磁盘空间；检查时临时目录（TMPDIR）要放得下一份副本
error-insufficient-balance = 余额不足：{ $detail }
    .hint = glean faucet（私有网络），或减小 --max
error-no-account = { $detail } 中没有账户
    .hint = glean wallet new，或 glean join LINE
error-no-home = 没有存放本节点数据的目录：{ $detail }
    .hint = 用 --home 或 GLEAN_HOME 指定
error-no-input = 没有文件或目录 { $detail }
    .hint = --input 主机路径:客体路径，例如 --input ./data:/in
error-no-log = 无法启动日志：{ $detail }
    .hint = GLEAN_LOG 接受 info 或 glean_node=debug 这样的级别
error-no-journal = 没有日志文件：{ $detail }
    .hint = 节点启动时会写入：glean status
error-no-network = 本节点还不属于任何网络：{ $detail }
    .hint = glean network init 建立；glean join LINE 加入；单独的 glean 是演示
error-no-program = 没有程序 { $detail }
    .hint = 请指定为 WASI preview 1 构建的 .wasm 文件（Rust：--target wasm32-wasip1）
error-no-randomness = 系统没有给出随机数：{ $detail }
    .hint = 请等系统完全启动
error-no-tasks = 任务列表 { $detail } 是空的
    .hint = 每行一个任务
error-nobody-to-ask = 这里需要回答，但没有终端可问{ $detail }
    .hint = 用文件传入秘密：--password-file 或 --secret-file
error-node-gone = 节点不应答：{ $detail }
    .hint = glean doctor；节点再启动后作业会继续
error-node-running = { $detail } 中有节点在运行
    .hint = glean node --stop
error-node-start = 节点没有启动；其日志说 { $detail }
    .hint = glean doctor
error-node-stuck = 节点进程 { $detail } 没有停下
    .hint = 按其进程号结束它
error-not-receipts = 这不是作业的收据：{ $detail }
    .hint = glean receipt JOB --out FILE 可写出收据
error-passwords-differ = 两次输入的密码不同{ $detail }
    .hint = 没有写出任何东西；请再试
error-short-password = 密码至少要 { $detail } 个字符
    .hint = 拿到文件的人想猜多久就猜多久
error-stdin-too-large = 标准输入超过 { $detail } MiB
    .hint = 请作为文件传入：--input FILE:/in/FILE
error-too-many-tasks = { $detail } 个任务超过一个作业的上限
    .hint = 请拆分列表
error-wrong-word = 那不是第 { $detail } 个词；没有做任何改动
    .hint = 请重新 glean wallet new，并抄下各词
error-ambiguous-job = 作业编号不唯一：{ $detail }
    .hint = 请多给几位
error-bad-host = 主机头不对：{ $detail }
    .hint = 请用数据目录中 run/api.json 的地址
error-bad-input = 输入不可用：{ $detail }
    .hint = --input 主机路径:客体路径，只用普通文件，客体路径如 /data/a.csv
error-bad-program = 程序不能运行：{ $detail }
    .hint = 程序须是 WASI preview 1 模块：rustc --target wasm32-wasip1，或 zig cc -target wasm32-wasi
error-bad-token = 令牌不对：{ $detail }
    .hint = 请用数据目录中 run/api.json 的令牌
error-disk = 磁盘出错：{ $detail }
    .hint = 请腾出空间或检查磁盘，再启动节点
error-faucet-refused = 没有领到额度：{ $detail }
    .hint = 私有网络上每个账户只发一次
error-job-refused = 作业被拒绝：{ $detail }
    .hint = 见数据目录中的 log/node.log
error-ledger-unreachable = 无法连上账本：{ $detail }
    .hint = glean doctor
error-no-file = 没有这个文件：{ $detail }
    .hint = glean jobs JOB
error-no-job = 没有这个作业：{ $detail }
    .hint = glean jobs
error-no-output = 输出已丢失：{ $detail }
    .hint = 请重新运行作业
error-no-result = 还没有结果：{ $detail }
    .hint = glean explain JOB/TASK
error-no-sample = 试跑失败：{ $detail }
    .hint = 先跑一个任务看原因：--array 1-1
error-no-task = 没有这个任务：{ $detail }
    .hint = 任务从 0 数起
error-stopping = 节点正在停止：{ $detail }
    .hint = 请再启动；数据目录中的 log/node.log 写有原因
error-store-failed = 无法保存数据：{ $detail }
    .hint = 请检查磁盘空间
error-too-large = 超出限制：{ $detail }
    .hint = 请把作业拆小
error-unreadable-file = 读不了文件：{ $detail }
    .hint = 请检查路径和权限
error-demo-running = { $detail } 中已有演示在运行
    .hint = 请等它结束，或换个目录：glean demo --dir DIR
