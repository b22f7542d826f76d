//! The other end: VIP on lo, host route, ARP sysctls.
