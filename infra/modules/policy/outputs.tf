output "policies" {
  description = "What each role may do: role -> IAM policy, as JSON."
  value       = local.policies

  precondition {
    condition     = alltrue([for policy in values(local.policies) : length(policy) <= 10240])
    error_message = "A role's policy is longer than the 10240 characters that IAM takes: ${jsonencode({ for role, policy in local.policies : role => length(policy) if length(policy) > 10240 })}. Give repositories a common prefix less, or use the module once for each group of repositories."
  }
}

output "trust" {
  description = "Who may take each role: role -> trust policy, as JSON."
  value       = local.trust
}

output "bucket_policies" {
  description = "Policies of the buckets, as JSON: data, staging."
  value       = local.bucket_policies
}

output "repository_policy" {
  description = "The policy of the image repository, as JSON: functions fetch their image."
  value       = local.repository_policy
}

output "role_names" {
  description = "role -> its name."
  value       = local.role_names
}

output "role_arns" {
  description = "role -> its ARN."
  value       = local.role_arns
}

output "function_names" {
  description = "Memory in MB, as a string -> the name that Lithops computes for the function."
  value       = local.function_names
}

output "function_arns" {
  description = "Memory in MB, as a string -> the function's ARN."
  value       = local.function_arns
}

output "direct_function" {
  description = "The name of the function that takes plain events."
  value       = local.direct_function
}

output "state_machine" {
  description = "The name of the state machine that runs a plan by plain events."
  value       = local.state_machine
}

output "metadata_keys" {
  description = "Memory in MB, as a string -> the key in the staging bucket without which Lithops would not adopt the function."
  value       = local.metadata_keys
}

output "metadata" {
  description = "What lies under each of metadata_keys, as JSON, until `frazil runtime` puts what the image itself says."
  value = jsonencode({
    preinstalls     = []
    python_version  = var.python_version
    lithops_version = var.lithops_version
    runtime_timeout = var.timeout
  })
}

output "image" {
  description = "The image: the registry's host, the repository that Lithops pushes to, and the tag."
  value       = { registry = local.registry, repository = local.image_repository, tag = local.image_tag, uri = "${local.registry}/${local.image_repository}:${local.image_tag}" }
}

output "queue_names" {
  description = "Queues: failed (calls that failed), events (plain events for the direct function)."
  value       = { failed = local.failed_queue, events = local.events_queue }
}

output "github_provider_arn" {
  description = "ARN of GitHub's OIDC provider in the account, whoever made it."
  value       = local.github_provider_arn
}

output "lithops_config" {
  description = "Lithops' configuration, as YAML. It travels in every call, and holds no key: clients and functions have roles."
  value       = yamlencode(local.lithops_config)
}

output "run_prefixes" {
  description = "Prefixes in the data bucket below which runs live."
  value       = local.run_prefixes
}
