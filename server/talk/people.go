package talk

import "context"

// People is what everybody may see of each other.
type People struct {
	Reader Reader
	Outbox *Outbox
}

// User returns a living user, or ErrUserNotFound.
func (s *People) User(ctx context.Context, id UserID) (UserView, error) {
	return s.Reader.User(ctx, id)
}

// UserByUsername is [People.User] by name, whatever its case.
func (s *People) UserByUsername(ctx context.Context, name string) (UserView, error) {
	return s.Reader.UserByUsername(ctx, name)
}

// Users returns those of ids that exist, in their order, each once.
func (s *People) Users(ctx context.Context, ids []UserID) ([]UserView, error) {
	return s.Reader.Users(ctx, ids)
}

// UpdateProfile changes the caller's own profile, and how they appear in the
// room they sit in. An empty display name means the username.
func (s *People) UpdateProfile(ctx context.Context, who UserID, edit ProfileEdit) (User, error) {
	edit, err := checkProfile(edit)
	if err != nil {
		return User{}, err
	}
	var after User
	err = s.Outbox.Change(ctx, Scope{Users: []UserID{who}, Seats: true}, func(state *State) error {
		user, err := state.User(who)
		if err != nil {
			return err
		}
		if edit.DisplayName != nil && *edit.DisplayName == "" {
			edit.DisplayName = new(user.Username)
		}
		state.UpdateUser(user, edit)
		after = user.User
		return nil
	})
	return after, err
}

func checkProfile(edit ProfileEdit) (ProfileEdit, error) {
	for field, tags := range map[string]**[]string{
		"profile.native_languages":   &edit.NativeLanguages,
		"profile.learning_languages": &edit.LearningLanguages,
	} {
		if *tags == nil {
			continue
		}
		checked, err := CheckLanguages(field, **tags)
		if err != nil {
			return edit, err
		}
		*tags = &checked
	}
	return edit, nil
}
