package sandbox

import (
	"errors"
	"fmt"
	"math"
	"os/user"
	"strconv"
)

// Identity is whom a worker runs as.
type Identity struct {
	UID, GID int
	Name     string
}

// Lookup finds a user by name or by number. A number need not be in the user
// database, where there is one at all; its group then has the same number.
//
// It reads files, so it has no place in a sandbox.
func Lookup(name string) (Identity, error) {
	if name == "" {
		return Identity{}, errors.New("the user is empty: name one, such as nobody")
	}
	number, err := strconv.ParseUint(name, 10, 32)
	numeric := err == nil
	if numeric && number >= math.MaxUint32 {
		// setresuid reads -1 as "leave it".
		return Identity{}, fmt.Errorf("user %s is no user: the number is reserved", name)
	}
	find := user.Lookup
	if numeric {
		find = user.LookupId
	}
	u, err := find(name)
	switch {
	case err != nil && numeric:
		return Identity{UID: int(number), GID: int(number), Name: name}, nil
	case errors.As(err, new(user.UnknownUserError)):
		return Identity{}, fmt.Errorf("user %s does not exist: make it (useradd --system --no-create-home %s), or name another one with the key user", name, name)
	case err != nil:
		return Identity{}, fmt.Errorf("look up user %s: %w; the key user takes a number too", name, err)
	}
	i := Identity{Name: u.Username}
	if i.UID, err = strconv.Atoi(u.Uid); err != nil {
		return Identity{}, fmt.Errorf("look up user %s: its number: %w", name, err)
	}
	if i.GID, err = strconv.Atoi(u.Gid); err != nil {
		return Identity{}, fmt.Errorf("look up user %s: its group: %w", name, err)
	}
	return i, nil
}
