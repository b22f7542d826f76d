//! NICs, routes, neighbours, addresses and ARP over netlink and packet sockets.
