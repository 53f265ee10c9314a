//! The service's description of itself, for tools such as grpcurl.

use http::{Request, Response};
use http_body_util::BodyExt as _;

use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use tonic_reflection::server::Builder;
use tower_service::Service as _;

use super::{GrpcBody, grpc};
use crate::reply::{AnswerBody, BoxError};

const V1: &str = "/grpc.reflection.v1.ServerReflection/";
const V1_ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/";

/// Whether the path is one of reflection's.
pub(super) fn serves(path: &str) -> bool {
    path.starts_with(V1) || path.starts_with(V1_ALPHA)
}

/// Answers a call of reflection.
pub(super) async fn serve(request: Request<GrpcBody>) -> Response<AnswerBody> {
    let builder = Builder::configure().register_file_descriptor_set(described());
    let served = if request.uri().path().starts_with(V1) {
        let mut service = builder.build_v1().expect("the description is well-formed");
        service.call(request).await
    } else {
        let mut service = builder
            .build_v1alpha()
            .expect("the description is well-formed");
        service.call(request).await
    };
    let response = served.unwrap_or_else(|never| match never {});
    response.map(|body| {
        body.map_err(|status| Box::new(status) as BoxError)
            .boxed_unsync()
    })
}

/// Both packages, as protoc would describe them.
fn described() -> FileDescriptorSet {
    let file = |name: &str, package: &str, service: &str, first: &str| FileDescriptorProto {
        name: Some(name.to_owned()),
        package: Some(package.to_owned()),
        syntax: Some("proto3".to_owned()),
        message_type: vec![
            message("NewSessionRequest", &[(first, 1), ("initial_prompt", 2)]),
            message(
                "NewSessionResponse",
                &[("session_id", 1), ("initial_response", 2)],
            ),
            message("ChatRequest", &[("session_id", 1), ("prompt", 2)]),
            message("ChatResponse", &[("response", 2)]),
            message("DeleteSessionRequest", &[("session_id", 1)]),
            message("DeleteSessionResponse", &[("session_id", 1)]),
        ],
        service: vec![ServiceDescriptorProto {
            name: Some(service.to_owned()),
            method: ["NewSession", "Chat", "DeleteSession"]
                .iter()
                .map(|method| MethodDescriptorProto {
                    name: Some((*method).to_owned()),
                    input_type: Some(format!(".{package}.{method}Request")),
                    output_type: Some(format!(".{package}.{method}Response")),
                    ..MethodDescriptorProto::default()
                })
                .collect(),
            ..ServiceDescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet {
        file: vec![
            file(
                "muvtuber/chatbot/v2/chatbot.proto",
                grpc::PACKAGE_V2,
                grpc::SERVICE_V2,
                "config",
            ),
            file(
                "muvtuber/chatbot/chatgpt_chatbot/v1/chatgpt.proto",
                grpc::PACKAGE_V1,
                grpc::SERVICE_V1,
                "access_token",
            ),
        ],
    }
}

fn message(name: &str, fields: &[(&str, i32)]) -> DescriptorProto {
    DescriptorProto {
        name: Some(name.to_owned()),
        field: fields
            .iter()
            .map(|(name, number)| FieldDescriptorProto {
                name: Some((*name).to_owned()),
                number: Some(*number),
                label: Some(Label::Optional.into()),
                r#type: Some(Type::String.into()),
                ..FieldDescriptorProto::default()
            })
            .collect(),
        ..DescriptorProto::default()
    }
}
