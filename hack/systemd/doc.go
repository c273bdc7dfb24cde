// Package systemd holds the unit file for ringroad as a service, and the test that it says what the code needs.
package systemd
