locals {
  # As Lithops computes them: lithops/serverless/backends/aws_lambda/aws_lambda.py, _format_function_name,
  # get_runtime_key and _format_repo_name; lithops/storage/storage.py, _runtime_meta_refs.
  user_word      = split(":", var.user_id)[0]
  user_key       = lower(substr(local.user_word, length(local.user_word) - 4, 4))
  version_digits = replace(var.lithops_version, ".", "")
  function_names = tomap({
    for memory in var.memory_sizes : tostring(memory) => join("-", [
      "lithops-worker", local.user_key, local.version_digits,
      substr(sha1("${var.runtime}-${memory}-${var.lithops_version}"), 0, 10),
    ])
  })
  metadata_keys = tomap({
    for memory, function in local.function_names :
    memory => "lithops.runtimes/aws_lambda/${var.lithops_version}/${var.region}/${function}.meta.json"
  })
  image_repository = lower("lithops_v${local.version_digits}_${local.user_key}/${split(":", var.runtime)[0]}")
  image_tag        = split(":", var.runtime)[1]
  registry         = "${var.account_id}.dkr.ecr.${var.region}.amazonaws.com"

  # Ours.
  direct_function = "${var.name}-direct"
  roles           = concat(["worker", "direct", "states", "events", "client", "deployer", "maintenance"], var.github == null ? [] : ["ci-plan", "ci-apply"])
  role_names      = { for role in local.roles : role => "${var.name}-${role}" }
  run_prefixes    = tolist([for repository in var.repositories : "${repository}.frazil/"])

  # ARNs.
  s3            = "arn:${var.partition}:s3:::"
  data          = "${local.s3}${var.data_bucket}"
  staging       = "${local.s3}${var.staging_bucket}"
  here          = "${var.region}:${var.account_id}"
  iam           = "arn:${var.partition}:iam::${var.account_id}"
  role_arns     = { for role, name in local.role_names : role => "${local.iam}:role/${name}" }
  function_arns = { for memory, function in local.function_names : memory => "arn:${var.partition}:lambda:${local.here}:function:${function}" }
  direct_arn    = "arn:${var.partition}:lambda:${local.here}:function:${local.direct_function}"
  state_machine = "${var.name}-run"
  machine_arn   = "arn:${var.partition}:states:${local.here}:stateMachine:${local.state_machine}"
  failed_queue  = "${var.name}-failed"
  events_queue  = "${var.name}-events"
  queue_arns    = { for queue in [local.failed_queue, local.events_queue] : queue => "arn:${var.partition}:sqs:${local.here}:${queue}" }
  image_arn     = "arn:${var.partition}:ecr:${local.here}:repository/${local.image_repository}"
  github_issuer = "token.actions.githubusercontent.com"
}
