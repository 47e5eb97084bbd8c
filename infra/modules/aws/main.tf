module "policy" {
  source = "../policy"

  name               = var.name
  partition          = var.partition
  account_id         = var.account_id
  region             = var.region
  data_bucket        = var.data_bucket
  staging_bucket     = var.staging_bucket
  repositories       = var.repositories
  sources            = var.sources
  plans              = var.plans
  user_id            = var.user_id
  lithops_version    = var.lithops_version
  runtime            = var.runtime
  memory_sizes       = var.memory_sizes
  timeout            = var.timeout
  python_version     = var.python_version
  github             = var.github
  trusted_principals = var.trusted_principals
}

locals {
  # Names are made of variables alone, and so are known while planning: a plan shows whole policies.
  roles           = toset([for role in keys(module.policy.role_names) : role if var.direct != null || !contains(["direct", "states", "events"], role)])
  functions       = var.image_digest == null ? tomap({}) : module.policy.function_names
  direct          = var.image_digest == null || var.direct == null ? [] : [var.direct]
  direct_prepared = var.direct == null ? [] : [var.direct]
  image           = "${module.policy.image.registry}/${module.policy.image.repository}@${coalesce(var.image_digest, "none")}"
  alarm_actions   = aws_sns_topic.alarms[*].arn
}
