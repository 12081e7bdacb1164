# Hosts out of network namespaces on one machine, for the tests of runs on several hosts. Sourced after running.sh.
#   make_hosts N RATE   hosts h1..hN on a switch, every link limited to RATE (tc tbf), both ways
#   on_host H COMMAND   runs there, under that host name, with $work/own.H, if that exists, as $work/own; $work/agent does so
#                       for mpirun
#   cut_off H, mend H       takes the host's link away and brings it back
# The switch is in a namespace too: nothing of this machine's network is touched.
prefix=dft$$
[ "$(id -u)" = 0 ] || skip "several hosts: needs root"
for program in ip tc nsenter unshare; do
  command -v $program >/dev/null || skip "several hosts: $program is missing (Debian: iproute2 util-linux)"
done
ip netns add $prefix-sw 2>/dev/null || skip "several hosts: no network namespaces here"
hosts=0
end_hosts() {
  [ -z "$job" ] || kill -KILL "$job" 2>/dev/null
  kill -KILL $(survivors) 2>/dev/null
  for ((i = 1; i <= hosts; i++)); do
    ip netns pids "$prefix-h$i" 2>/dev/null | xargs -r kill -KILL 2>/dev/null
    ip netns del "$prefix-h$i" 2>/dev/null
  done
  ip netns del $prefix-sw
  rm -rf "$work"
}
trap end_hosts EXIT

make_hosts() {
  local i end
  ip -n $prefix-sw link add bridge type bridge 2>/dev/null || skip "several hosts: no bridges in this kernel"
  ip -n $prefix-sw link set bridge up
  echo "127.0.0.1 localhost" >"$work/hosts"
  for ((i = 1; i <= $1; i++)); do
    ip netns add "$prefix-h$i" || fail "ip netns add"
    hosts=$i
    ip link add eth0 netns "$prefix-h$i" type veth peer name "h$i" netns $prefix-sw || skip "several hosts: no veth"
    ip -n "$prefix-h$i" addr add "10.77.0.$i/24" dev eth0
    ip -n "$prefix-h$i" link set lo up
    ip -n "$prefix-h$i" link set eth0 up
    ip -n $prefix-sw link set "h$i" master bridge up
    for end in "$prefix-h$i eth0" "$prefix-sw h$i"; do
      tc -n ${end% *} qdisc add dev "${end#* }" root tbf rate "$2" burst 64kb latency 50ms || skip "several hosts: no tc tbf"
    done
    echo "10.77.0.$i h$i" >>"$work/hosts"
  done
  cat >"$work/on-host" <<END
#!/bin/sh
h=\$1
shift
[ ! -e "$work/cut.\$h" ] || exit 255
exec nsenter --net=/run/netns/$prefix-\$h unshare --uts --mount sh -c \\
  'hostname "\$0"; mount --bind "$work/hosts" /etc/hosts; [ ! -d "$work/own.\$0" ] || mount --bind "$work/own.\$0" "$work/own"
  exec "\$@"' "\$h" "\$@"
END
  # as ssh does it, the words of the command are joined and given to a shell
  printf '#!/bin/sh\nh=$1\nshift\nexec "%s" "$h" /bin/sh -c "$*"\n' "$work/on-host" >"$work/agent"
  chmod +x "$work/on-host" "$work/agent"
  export TMPDIR=$work OMPI_MCA_plm_rsh_agent=$work/agent OMPI_MCA_pml=ob1 OMPI_MCA_btl=tcp,self,vader \
    OMPI_MCA_btl_tcp_if_include=10.77.0.0/24 OMPI_MCA_oob_tcp_if_include=10.77.0.0/24 \
    OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
}
on_host() { "$work/on-host" "$@"; }
cut_off() {
  : >"$work/cut.$1"
  ip -n $prefix-sw link set "$1" down
}
mend() {
  rm "$work/cut.$1"
  ip -n $prefix-sw link set "$1" up
}
