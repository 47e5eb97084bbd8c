resource "aws_iam_role" "this" {
  for_each = local.roles

  name                 = module.policy.role_names[each.key]
  description          = "Frazil: ${each.key}"
  assume_role_policy   = module.policy.trust[each.key]
  max_session_duration = contains(["client", "ci-apply"], each.key) ? 12 * 3600 : 3600 # a run may take long
  tags                 = var.tags

  depends_on = [aws_iam_openid_connect_provider.github]
}

resource "aws_iam_role_policy" "this" {
  for_each = local.roles

  name   = each.key
  role   = aws_iam_role.this[each.key].id
  policy = module.policy.policies[each.key]
}

resource "aws_iam_openid_connect_provider" "github" {
  count = var.github != null && var.create_github_provider ? 1 : 0

  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
  tags           = var.tags
}
