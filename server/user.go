package server

import (
	"context"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
	"github.com/free2talk/free2talk/server/talk"
)

// userHandler is UserService: [talk.People] on the wire.
type userHandler struct {
	people *talk.People
	live   *liveParts
}

var _ free2talkv1connect.UserServiceHandler = userHandler{}

// GetUser shows what everybody may see of somebody, and to who is signed in
// whether they are there.
func (h userHandler) GetUser(ctx context.Context, req *freev1.GetUserRequest) (*freev1.GetUserResponse, error) {
	view, err := h.named(ctx, req)
	if err != nil {
		return nil, err
	}
	res := &freev1.GetUserResponse{User: wireUser(view.User)}
	if _, signedIn := callerFrom(ctx); signedIn && h.live.Presence != nil {
		presence, err := h.live.Presence.Of(ctx, []talk.UserID{view.ID})
		if err != nil {
			return nil, err
		}
		if len(presence) > 0 {
			res.Presence = wirePresence(presence[0])
		}
	}
	return res, nil
}

func (h userHandler) named(ctx context.Context, req *freev1.GetUserRequest) (talk.UserView, error) {
	if name := req.GetUsername(); name != "" {
		return h.people.UserByUsername(ctx, name)
	}
	return h.people.User(ctx, id[talk.UserID](req.GetId()))
}

// BatchGetUsers shows many at once and leaves out who is not there.
func (h userHandler) BatchGetUsers(ctx context.Context, req *freev1.BatchGetUsersRequest) (*freev1.BatchGetUsersResponse, error) {
	views, err := h.people.Users(ctx, ids[talk.UserID](req.GetIds()))
	if err != nil {
		return nil, err
	}
	return &freev1.BatchGetUsersResponse{Users: each(views, wireUserView)}, nil
}

// UpdateProfile changes what the caller tells about themselves.
func (h userHandler) UpdateProfile(ctx context.Context, req *freev1.UpdateProfileRequest) (*freev1.UpdateProfileResponse, error) {
	edit, err := profileEdit(req)
	if err != nil {
		return nil, err
	}
	user, err := h.people.UpdateProfile(ctx, whoFrom(ctx), edit)
	if err != nil {
		return nil, err
	}
	return &freev1.UpdateProfileResponse{User: wireUser(user)}, nil
}

func profileEdit(req *freev1.UpdateProfileRequest) (talk.ProfileEdit, error) {
	user := req.GetProfile()
	m, err := readMask(user, req.GetUpdateMask(),
		"display_name", "avatar_url", "bio", "native_languages", "learning_languages", "country")
	return talk.ProfileEdit{
		DisplayName:       named(m, "display_name", user.GetDisplayName()),
		AvatarURL:         named(m, "avatar_url", user.GetAvatarUrl()),
		Bio:               named(m, "bio", user.GetBio()),
		NativeLanguages:   named(m, "native_languages", user.GetNativeLanguages()),
		LearningLanguages: named(m, "learning_languages", user.GetLearningLanguages()),
		Country:           named(m, "country", user.GetCountry()),
	}, err
}

func wireUserView(view talk.UserView) *freev1.User { return wireUser(view.User) }
