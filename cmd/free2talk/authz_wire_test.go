package main

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// raw sends bytes as the message of a Connect call, whatever they are, and
// returns what came of it and all that was said, headers included.
func (w *world) raw(n *testNode, method protoreflect.MethodDescriptor, codec string, message []byte, token string) (verdict, said string) {
	w.Helper()
	contentType := "application/" + codec
	if method.IsStreamingServer() {
		contentType = "application/connect+" + codec
		message = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	}
	reply := w.post(n, "/"+string(method.Parent().FullName())+"/"+string(method.Name()), contentType, message, token)
	defer reply.Body.Close()
	var body []byte
	var err error
	if method.IsStreamingServer() && reply.StatusCode == http.StatusOK {
		body, err = firstEnvelope(reply.Body)
	} else {
		body, err = io.ReadAll(reply.Body)
	}
	if err != nil {
		w.Fatal(err)
	}
	var headers strings.Builder
	_ = reply.Header.Write(&headers)
	return verdictOf(body), headers.String() + string(body)
}

func (w *world) post(n *testNode, path, contentType string, body []byte, token string) *http.Response {
	w.Helper()
	request, err := http.NewRequestWithContext(w.Context(), http.MethodPost, n.url+path, strings.NewReader(string(body)))
	if err != nil {
		w.Fatal(err)
	}
	request.Header.Set("Content-Type", contentType)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	reply, err := w.http.Do(request)
	if err != nil {
		w.Fatal(err)
	}
	return reply
}

// firstEnvelope is the first message of a stream, or what its end says.
func firstEnvelope(r io.Reader) ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[1:]))
	_, err := io.ReadFull(r, body)
	return body, err
}

func verdictOf(body []byte) string {
	type wireError struct {
		Code    string
		Details []struct {
			Type  string
			Debug map[string]any
		}
	}
	var said struct {
		wireError
		Error *wireError // at the end of a stream
	}
	if json.Unmarshal(body, &said) != nil {
		return "ok" // a message in binary: errors are always JSON
	}
	e := &said.wireError
	if said.Error != nil {
		e = said.Error
	}
	for _, d := range e.Details {
		if reason, _ := d.Debug["reason"].(string); d.Type == "google.rpc.ErrorInfo" {
			return reason
		}
	}
	if e.Code == "" {
		return "ok"
	}
	return e.Code
}

// methods are all RPCs of ours, by "Service.Method".
func methods() map[string]protoreflect.MethodDescriptor {
	all := map[string]protoreflect.MethodDescriptor{}
	for _, file := range []protoreflect.FileDescriptor{
		free2talkv1.File_free2talk_v1_auth_service_proto, free2talkv1.File_free2talk_v1_user_service_proto,
		free2talkv1.File_free2talk_v1_room_service_proto, free2talkv1.File_free2talk_v1_presence_service_proto,
		adminv1.File_free2talk_admin_v1_admin_service_proto,
	} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				all[string(service.Name())+"."+string(method.Name())] = method
			}
		}
	}
	return all
}
